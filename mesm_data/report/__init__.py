"""What people look at: a page, a sheet, a card."""
