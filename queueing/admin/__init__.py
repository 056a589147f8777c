"""Admin of the workers. Queue and locks are in executions/, since what waits there has names that only it knows."""

from django.contrib import admin
from django_q.models import Failure, OrmQ, Schedule, Success

from queueing.admin import fleet, registers

# django-q2 registers its own tables. A schedule there is any function with any arguments, which a worker calls: whoever
# may write one runs code, without a plan, an approval or a record.
admin.site.unregister((Failure, OrmQ, Schedule, Success))

__all__ = ["fleet", "registers"]
