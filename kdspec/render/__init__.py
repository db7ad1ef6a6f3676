"""Renders values as `rich` text or plain data; nothing here prints."""
