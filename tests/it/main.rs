mod admin;
mod portal;
mod store;
mod surface;
