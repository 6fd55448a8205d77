"""The lab of the cht.k3s collection: a vCenter, twelve machines and a mirror on one Linux host."""
