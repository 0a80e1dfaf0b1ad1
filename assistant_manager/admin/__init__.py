"""The admin's pages for what answers and how; importing it registers them."""

from assistant_manager.admin import assistants, connections, files, projects, users

__all__ = ["assistants", "connections", "files", "projects", "users"]
