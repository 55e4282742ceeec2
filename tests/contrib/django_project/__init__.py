"""A Django site with sessions and cached pages, its caches set as docs/django.md says."""
