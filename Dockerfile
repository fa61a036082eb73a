# LeukoDash on a machine with an NVIDIA GPU and the NVIDIA container toolkit. See docs/deploy.md.
FROM python:3.13-slim

WORKDIR /opt/leukodash
COPY pyproject.toml requirements.txt README.md LICENSE NOTICE streamlit_app.py ./
COPY .streamlit/config.toml .streamlit/config.toml
COPY checkpoints/published checkpoints/published
COPY leukodash leukodash
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --no-deps --requirement requirements.txt \
    && pip install --no-deps . \
    && pip install "tensorflow[and-cuda]==$(python -c 'from importlib.metadata import version as v; print(v("tensorflow"))')"

RUN useradd --create-home --uid 1000 leukodash && mkdir /data && chown leukodash /data
USER 1000
ENV LEUKODASH_DATA=/data/data \
    LEUKODASH_CHECKPOINTS=/data/checkpoints \
    LEUKODASH_CACHE=/data/cache
VOLUME /data
WORKDIR /data
EXPOSE 8501
HEALTHCHECK --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://localhost:8501/_stcore/health', timeout=5)"]
CMD ["leukodash", "app", "--server.headless", "true", "--server.address", "0.0.0.0"]
