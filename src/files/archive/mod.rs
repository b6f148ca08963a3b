//! Archives of files: the application sends a list (`X-Archive-Files: zip`, as for nginx's mod_zip), the client gets a
//! zip archive that is made while it is sent.
//!
//! The list is read ([`list`]), and the archive laid out ([`zip`]) and walked through ([`walk`]).
//!
//! Once begun, an archive that cannot be finished as planned ends the connection. Its directory comes last, so what the
//! client has then is no archive.

mod crc;
mod list;
mod names;
mod time;
mod walk;
mod zip;
