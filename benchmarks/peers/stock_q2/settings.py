"""Django's and django-q2's defaults, but for what the measurement has to say: database, workers, bulk, results kept."""

import os

from psycopg.conninfo import conninfo_to_dict

_url = conninfo_to_dict(os.environ["DATABASE_URL"])

SECRET_KEY = "only ever used by the benchmark"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_q"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url["dbname"],
        "USER": _url.get("user", ""),
        "PASSWORD": _url.get("password", ""),
        "HOST": _url.get("host", ""),
        "PORT": _url.get("port", ""),
    }
}
Q_CLUSTER = {
    "name": "peer",
    "orm": "default",
    "workers": int(os.environ["Q2_WORKERS"]),
    "bulk": int(os.environ["Q2_BULK"]),
    "timeout": 60,
    "retry": 120,
    # 0 keeps every result, so that they can be counted; by default (250) each job prunes the table, which is slower.
    "save_limit": 0,
    "log_level": "WARNING",
}
