"""What of this room can be tried here."""

from django.conf import settings

collect_ignore = [] if settings.REDIS_URL else ["test_shares_in_redis.py"]
