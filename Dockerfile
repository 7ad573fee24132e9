# The commands and the HTTP service (docs/deploy.md). For NVIDIA GPUs: --build-arg EXTRAS=cuda,serve
FROM python:3.12-slim
ARG EXTRAS=serve
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /cutpaste_tf
COPY . .
RUN make .venv/runtime && .venv/bin/pip install --no-cache-dir ".[${EXTRAS}]"
ENV PATH=/cutpaste_tf/.venv/bin:$PATH
EXPOSE 8000
CMD ["cutpaste-serve", "--help"]
