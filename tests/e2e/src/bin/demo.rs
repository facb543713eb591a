fn main() {
    eprintln!("demo: not written yet");
    std::process::exit(1);
}
