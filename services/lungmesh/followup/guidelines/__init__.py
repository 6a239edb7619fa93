"""Guidelines as data: one vocabulary, one table a guideline, one engine that reads them all."""
