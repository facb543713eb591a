fn main() {
    eprintln!("bench: not written yet");
    std::process::exit(1);
}
