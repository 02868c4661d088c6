"""An app such as a product might have: its commands fill the dashboard in browser tests and screenshots."""
