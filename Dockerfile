# The app in one image, which asks no network for anything once it is built.
# How to build, carry and run it: docs/deployment.md.

FROM python:3.11-slim-bookworm AS packages
COPY requirements.txt /src/requirements.txt
COPY deploy/requirements.txt /src/deploy/requirements.txt
RUN python -m venv /opt/cxr \
    && /opt/cxr/bin/pip install --no-cache-dir --disable-pip-version-check \
        -r /src/deploy/requirements.txt

FROM python:3.11-slim-bookworm
# What is kept (records, films if the site stores them) lies in one folder; the rest may be read-only.
RUN groupadd --gid 10001 cxr \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/cxr \
        --shell /usr/sbin/nologin cxr \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/cxr
COPY --from=packages /opt/cxr /opt/cxr
WORKDIR /srv/cxr
COPY .streamlit/config.toml .streamlit/config.toml
COPY LICENSE app.py ./
COPY models models
COPY pages pages
COPY cxr_core cxr_core
RUN ["/opt/cxr/bin/python", "-m", "compileall", "-q", "cxr_core"]
ENV CXR_RECORDS=sqlite:////var/lib/cxr/records.sqlite \
    PATH=/opt/cxr/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=3
USER 10001:10001
VOLUME ["/var/lib/cxr"]
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5)"]
# The address is that of .streamlit/config.toml, 127.0.0.1: others reach it only once people sign in.
CMD ["python", "-m", "streamlit", "run", "app.py"]
