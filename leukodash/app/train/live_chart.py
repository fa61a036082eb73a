"""A Plotly chart that is updated in place: zoom and pan are kept while points arrive.

`st.plotly_chart` (Streamlit 1.67) mounts a new chart whenever its data change, which resets the zoom and flickers. This
component calls Plotly's `react`, and `uirevision` keeps the user's view. Plotly's JavaScript comes from the installed
package, which Streamlit serves: nothing is loaded from elsewhere.
"""

from pathlib import Path

import plotly
import plotly.graph_objects as go
import streamlit as st

from leukodash.figures.theme import alt_text

SERVED = st.components.v1.declare_component("plotly", path=Path(plotly.__file__).parent / "package_data")

DRAW = """
const library = (base) => window.leukodashPlotly ??= new Promise((resolve, reject) => {
  const script = document.createElement("script");
  script.src = base + "plotly.min.js";
  script.onload = () => resolve(window.Plotly);
  script.onerror = reject;
  document.head.append(script);
});

export default function ({ data, parentElement }) {
  const chart = parentElement.querySelector("[role=img]");
  const style = getComputedStyle(chart);
  const figure = JSON.parse(data.figure);
  const [ink, ground] = ["text", "background"].map((name) => style.getPropertyValue(`--st-${name}-color`).trim());
  Object.assign(figure.layout, {
    template: {}, autosize: true,
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",  // a finger scrolls the page
    font: { color: ink, family: style.fontFamily, size: 12 },
    hoverlabel: { bgcolor: ground, font: { color: ink } },
  });
  chart.style.height = figure.layout.height + "px";
  chart.setAttribute("aria-label", data.alt);
  library(new URL(data.base, document.baseURI).href).then((Plotly) => {
    if (chart.isConnected) {
      Plotly.react(chart, figure.data, figure.layout, { displayModeBar: false, responsive: true, scrollZoom: false });
    }
  });
}
"""
_chart = st.components.v2.component("chart", html='<div role="img"></div>', js=DRAW, isolate_styles=False)


def chart_data(figure: go.Figure) -> dict[str, str]:
    """Return the input of `live_chart` for a figure with alt text and height (see `figures.theme.layout`)."""
    return {"figure": figure.to_json(), "alt": alt_text(figure), "base": f"component/{SERVED.name}/"}


def live_chart(data: dict[str, str], key: str) -> None:
    """Draw a figure, or update the one with this key. `data` comes from `chart_data`."""
    _chart(key=key, data=data)
