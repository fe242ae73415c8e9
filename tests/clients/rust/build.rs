//! Tells the program which versions it was built with, out of the lock file.

fn main() {
    let lock = std::fs::read_to_string("Cargo.lock").expect("a lock file");
    for name in ["redis", "fred"] {
        let after = lock.split(&format!("name = \"{name}\"\nversion = \"")).nth(1).expect("the library");
        println!("cargo:rustc-env={}_VERSION={}", name.to_uppercase(), after.split('"').next().expect("its version"));
    }
    println!("cargo:rerun-if-changed=Cargo.lock");
}
