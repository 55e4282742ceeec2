"""The page's settings, and what any site has besides."""

import os
import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "django.md"
IN_CACHE, IN_DATABASE_TOO = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
exec(IN_CACHE)
database = os.environ.get("SITE_DATABASE", ":memory:")
if database != ":memory:":
    exec(IN_DATABASE_TOO)

CACHES = globals()["CACHES"]
if where := os.environ.get("SITE_LOCATION"):
    CACHES["default"]["LOCATION"] = where
    CACHES["default"]["OPTIONS"]["create"] = True

SECRET_KEY = "a site's secret"
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
ROOT_URLCONF = "tests.contrib.django_project.urls"
INSTALLED_APPS = ["django.contrib.sessions"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}}
USE_TZ = True
