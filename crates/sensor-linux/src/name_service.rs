//! Where names come from in an agent that is linked statically.
//!
//! `getaddrinfo` of the GNU C library asks the services that `/etc/nsswitch.conf` names, and loads a
//! library of the host for each. In a static program that drags a second C library of the host's
//! version into the process: at best it fails, at worst it crashes, and either way the program
//! depends on the host after all. The services `files` (`/etc/hosts`, `/etc/passwd`) and `dns`
//! (`/etc/resolv.conf`, where resolvers of a host such as systemd-resolved are named as well) are part
//! of the library itself (glibc 2.34 and later): those two are enough to find a server.

/// Makes look-ups use nothing but the services that are part of this program. Does nothing in a
/// program that is linked dynamically. To be called before the first look-up, and before there are
/// threads.
pub fn stay_within_this_program() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    for (database, services) in [
        (c"hosts", c"files dns"),
        (c"passwd", c"files"),
        (c"group", c"files"),
    ] {
        unsafe extern "C" {
            /// Of `nss.h`: overrides what `/etc/nsswitch.conf` says of a database.
            fn __nss_configure_lookup(
                database: *const libc::c_char,
                services: *const libc::c_char,
            ) -> libc::c_int;
        }
        // SAFETY: two strings that live for ever; the caller says that nobody looks names up yet.
        let answer = unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
        if answer != 0 {
            tracing::warn!(
                ?database,
                "names may be looked up with libraries of the host"
            );
        }
    }
}
