"""nftables over netlink: the few expressions that capture and Services need."""
