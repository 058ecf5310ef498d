"""New stores from stores: derived, merged, imported; and numbers out of them."""
