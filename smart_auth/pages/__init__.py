"""The pages of the sign-in side: HTML without inline script or style, and the few JSON endpoints beside them."""
