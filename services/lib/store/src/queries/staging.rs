//! What travels: sent and staged rows, pages and objects.
