"""Everything that speaks HTTP, in one app: ``uvicorn main:app --reload --port 8000``."""

from core.runtime.files import allow_many_files
from core.runtime.loaded import keep_loaded
from services.standalone.web import create_web

app = create_web()
keep_loaded()
allow_many_files()
