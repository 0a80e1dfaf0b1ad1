import assistant_manager.openai_api.framework  # noqa: F401 - before anything else of REST framework
