"""lowbit together with other libraries."""
