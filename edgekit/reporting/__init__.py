"""What was measured, put so that a person sees it: tables, pictures, benches."""
