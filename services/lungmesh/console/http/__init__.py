"""The console's doors for browsers: the page, its JSON API, DICOMweb."""
