"""The smallest Django project around an unmodified django-q2 with its ORM broker."""
