"""Checks and times the kernels on this machine's card, and writes DATE-DEVICE.json and .md.

    python3 bench/gpu/run.py PROGRAMS RESULTS [--emulated [--quick]]

PROGRAMS is the folder that bench/gpu/build made, RESULTS the folder for the two files. Takes at most ten minutes: every
operation against the processor, the rates that the card reaches, each kernel against them, whole training steps, and the same
steps by PyTorch, where it is installed. Needs Python 3.9 and the driver; CUDA's user libraries may be those of the system or
of this Python's packages. With --emulated the same on the processor, to try the script, with --quick two checks of all:
nothing is written, and every part that fails is exit code 1.
"""

import ctypes
import datetime
import json
import os
import pathlib
import site
import subprocess
import sys
import time

MINUTES = 9.5
HERE = pathlib.Path(__file__).resolve().parent
# Steps by the bytes of the card's memory that they need: full and LoRA.
STEPS = [
    (140e9, ["llama-2-7b:2:8", "llama-2-7b:2:4:lora"]),
    (75e9, ["llama-3.2-3b:1:8", "llama-2-7b:2:4:lora"]),
    (0, ["llama-3.2-1b:1:4", "llama-3.2-1b:1:4:lora"]),
]


def library_folders():
    """Folders of this Python's packages that hold shared libraries of CUDA."""
    roots = [pathlib.Path(root) for root in site.getsitepackages() + [site.getusersitepackages()]]
    return [str(folder) for root in roots for folder in sorted(root.glob("nvidia/*/lib")) if folder.is_dir()]


def level(folders):
    """The newest level whose libraries are there."""
    for name, major in (("13000", 13), ("12080", 12)):
        wanted = [f"libcublasLt.so.{major}", f"libnvrtc.so.{major}"]
        if knows(major) and all(opens(library) or any((pathlib.Path(folder) / library).exists() for folder in folders) for library in wanted):
            return name
    sys.exit("bench/gpu: neither CUDA 13's nor CUDA 12's cuBLASLt and NVRTC are here")


def knows(major):
    """Whether the driver knows this CUDA; where there is none, the program says so better."""
    try:
        version = ctypes.c_int()
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
        return version.value >= 1000 * major
    except OSError:
        return True


def opens(library):
    try:
        ctypes.CDLL(library)
        return True
    except OSError:
        return False


def lines(command, environment, seconds):
    """The JSON objects that a program prints; what it said last, where it failed."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=max(seconds, 1), check=False)
        out, failed = done.stdout, None if done.returncode == 0 else (done.stderr.strip() or f"exit {done.returncode}")[-2000:]
    except subprocess.TimeoutExpired as late:
        out, failed = (late.stdout or b"").decode(), f"stopped after {seconds:.0f} s"
    objects = [json.loads(line) for line in out.splitlines() if line.startswith("{") and line.endswith("}")]
    return objects, failed


def driver():
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version,power.limit", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def measure(program, environment, device, checks):
    """Runs every part in a process of its own, so that one that fails does not take the others with it; so many checks."""
    began, seed = time.monotonic(), int(time.time()) % 100_000
    left = lambda: MINUTES * 60 - (time.monotonic() - began)
    results = {"seed": seed, "failed": {}, "steps": [], "torch": []}

    def part(name, seconds):
        objects, failed = lines([program, device, str(seed), name], environment, min(seconds, left()))
        if failed:
            results["failed"][name] = failed
        for found in objects:
            if "card" in found:
                results.update(found)
            elif "check" in found:
                results.setdefault("checks", []).append(found)
            elif "step" in found:
                results["steps"].append(found["step"])
            else:
                results.update(found)

    # Each in a process of its own: after a fault a process can do nothing more with its card.
    names, failed = lines([program, device, str(seed), "list"], environment, 60)
    if failed or not any("list" in found for found in names):
        results["failed"]["list"] = failed or "no list"
    for name in next((found["list"] for found in names if "list" in found), [])[:checks]:
        part(f"check:{name}", 120)
    part("ceilings", 60)
    part("kernels", 120)
    memory = results.get("card", {}).get("memory_bytes", 0)
    steps = next(names for bytes_, names in STEPS if memory >= bytes_) if device == "card" else ["small:1:2", "small:1:2:lora"]
    for name in steps:
        part(f"step:{name}", 150)
        if device == "card":
            found, failed = lines([sys.executable, str(HERE / "torch_step.py"), name], None, min(150, left()))
            results["torch"] += found
            if failed:
                results["failed"][f"torch {name}"] = failed
    return results


def table(results):
    """The results as a person reads them."""
    ceilings = results.get("ceilings", {})
    copy, product = ceilings.get("copy_bytes_per_second", 0), ceilings.get("product_flops", 0)
    text = [f"# {results.get('card', {}).get('name', 'no card')}, {results['date']}", ""]
    text += [f"Driver, power limit: {results['driver']}. CUDA level {results['level']}. Seed {results['seed']}. `{results['command']}`", ""]
    wrong = [check for check in results.get("checks", []) if "wrong" in check]
    text += [f"Checks against the processor: {len(results.get('checks', []))}, of which wrong: {len(wrong)}.", ""]
    text += [f"- {check['check']}: {check['wrong']}" for check in wrong]
    text += [f"Ceilings of this run: copy {copy / 1e12:.2f} TB/s, product {product / 1e12:.0f} TFLOP/s.", ""]
    text += ["| operation | µs | rate | of the ceiling |", "|---|---:|---:|---:|"]
    for kernel in results.get("kernels", []):
        flops = kernel.get("flops")
        rate = f"{flops / 1e12:.0f} TFLOP/s" if flops else f"{kernel['bytes_per_second'] / 1e12:.2f} TB/s"
        ceiling = product if flops else copy
        share = (flops or kernel["bytes_per_second"]) / ceiling if ceiling else 0
        text.append(f"| {kernel['operation']} | {1e6 * kernel['seconds']:.0f} | {rate} | {100 * share:.0f} % |")
    text += ["", "| step | tokens/s | TFLOP/s (PaLM) | TFLOP/s (6N) | arena GB |", "|---|---:|---:|---:|---:|"]
    for step in results["steps"]:
        text.append(
            f"| {step['what']} | {step['tokens_per_second']:.0f} | {step['flops_palm'] / 1e12:.0f} | "
            f"{step['flops_6n'] / 1e12:.0f} | {step['arena_bytes'] / 1e9:.1f} |"
        )
    text += [f"| {step['what']}, PyTorch {step['torch']}, {step['how']} | {step['tokens_per_second']:.0f} | | | |" for step in results["torch"]]
    text += [""] + [f"Failed: {name}: {reason}" for name, reason in results["failed"].items()]
    return "\n".join(text) + "\n"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    programs, folder, emulated = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), "--emulated" in sys.argv
    folders = library_folders()
    chosen = "12080" if emulated else level(folders)
    path = os.pathsep.join(folders + [os.environ.get("LD_LIBRARY_PATH", "")]).strip(os.pathsep)
    environment = {**os.environ, "LD_LIBRARY_PATH": path}
    checks = 2 if emulated and "--quick" in sys.argv else None
    results = measure(str(programs / f"gpu-{chosen}"), environment, "emulated" if emulated else "card", checks)
    date = datetime.date.today().isoformat()
    results.update(date=date, driver=driver(), level=chosen, command=" ".join(["python3", *sys.argv]))
    print(table(results))
    if not emulated:
        name = results.get("card", {}).get("name", "no card").lower().replace("nvidia", "").split()
        stem = f"{date}-{name[0] if name else 'card'}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
        (folder / f"{stem}.md").write_text(table(results))
    wrong = any("wrong" in check for check in results.get("checks", []))
    failed = any(emulated or name == "list" or name.startswith("check:") for name in results["failed"])
    sys.exit(1 if wrong or failed else 0)


if __name__ == "__main__":
    main()
