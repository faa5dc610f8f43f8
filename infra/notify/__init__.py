"""Messages to people: queued durably in the record's store, delivered by webhook, never lost (REC-2)."""
