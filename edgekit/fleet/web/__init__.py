"""The dashboard: pages, streams and an API over what the store holds. FastAPI loads when it is started."""
