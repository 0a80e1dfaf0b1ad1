"""The admin's pages for questions, answers and reviews; importing it registers them."""

from django.contrib import admin

from conversations.admin import reviews, runs, threads

admin.site.site_header = "Assistant Manager"
admin.site.site_title = "Assistant Manager"
admin.site.index_title = "All pages"
admin.site.site_url = None
admin.site.empty_value_display = "–"

__all__ = ["reviews", "runs", "threads"]
