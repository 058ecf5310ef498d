"""Stage two: students that learn from stores."""
