"""Reports: self-contained HTML pages with tables and inline SVG. All text is escaped here, and only here."""
