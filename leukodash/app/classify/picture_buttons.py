"""Pictures that are buttons: by mouse, touch and keyboard, each with a name for screen readers."""

import base64
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import streamlit as st

_mount = st.components.v2.component(
    "leukodash_picture_buttons",
    html="""<div role="group" style="display: grid; gap: 6px;
        grid-template-columns: repeat(auto-fill, minmax(clamp(44px, 6.25vw, 80px), 1fr))"></div>""",
    js="""export default ({ data, parentElement, setTriggerValue }) => {
      const wall = parentElement.querySelector('[role=group]');
      wall.ariaLabel = data.label;
      while (wall.children.length > data.buttons.length) wall.lastChild.remove();
      data.buttons.forEach(({ key, name, picture, pressed }, place) => {
        const button = wall.children[place] ?? wall.appendChild(document.createElement('button'));
        const image = button.firstChild ?? button.appendChild(document.createElement('img'));
        button.style.cssText = 'padding: 0; cursor: pointer; background: none; border-radius: 8px; border: 4px solid '
          + (pressed ? 'var(--st-primary-color)' : 'transparent');
        image.style.cssText = 'display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 4px';
        button.type = 'button';
        button.ariaLabel = button.title = name;
        button.ariaPressed = pressed;
        image.alt = '';
        if (image.src !== picture) image.src = picture;
        button.onclick = () => setTriggerValue('clicked', key);
      });
    }""",
)


class PictureButton(NamedTuple):
    """A picture to click: what `clicked` gets, its name, its data URL, and whether it is chosen."""

    key: str
    name: str
    picture: str
    pressed: bool


def picture_buttons(label: str, buttons: Sequence[PictureButton], clicked: Callable[[str], None], key: str) -> None:
    """Show pictures in rows, as many in each as fit; a click calls `clicked` with the picture's key."""
    _mount(
        data={"label": label, "buttons": [button._asdict() for button in buttons]}, key=key,
        on_clicked_change=lambda: clicked(st.session_state[key].clicked),
    )  # fmt: skip


def data_url(image: np.ndarray) -> str:
    """Return an image, uint8 (H, W, 3), RGB, as the URL of a WebP of about 2 kB for 96 × 96 pixels."""
    data = cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 85])[1]
    return f"data:image/webp;base64,{base64.b64encode(data.tobytes()).decode()}"
