"""Everything that speaks HTTP, in one app: ``uvicorn main:app --reload --port 8000``."""

from services.standalone.web import create_web

app = create_web()
