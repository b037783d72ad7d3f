"""nftables over netlink: the few expressions that capture and Services need, readable and without the `nft` program.

`fields` says what a packet has, `ruleset` what a rule may do and what a table is made of: all of it values, whose
`str()` reads like `nft list`. `messages` turns them into changes, and `netlink` commits a list of changes at once.
"""
