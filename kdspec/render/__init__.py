"""What kdspec shows: values in, `rich` text or plain data out; nothing in here prints."""
