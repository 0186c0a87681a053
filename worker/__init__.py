"""The Celery workers that drive service brokers. Knows shared, never api."""
