//! The manifests for Kubernetes.

use std::process::Command;

use crate::{process, python, repository};

/// The check of manifests against the schemas of a version of Kubernetes, which it brings with it.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";

const FOLDERS: [&str; 2] = ["deploy/kubernetes/base", "deploy/kubernetes/monitoring"];

/// Puts the manifests together, and checks each against its schema.
pub(super) fn check() -> Result<String, String> {
    check_files()?;
    let programs = python::environment("kubernetes", &[VALIDATOR])?;
    let scratch = repository::scratch("kubernetes")?;
    let mut kinds = Vec::new();
    for folder in FOLDERS {
        let manifests = together(folder)?;
        // The operator's own kind has no schema there.
        let parts = manifests.split("\n---\n").filter(|part| !part.contains("monitoring.coreos.com"));
        for part in parts {
            let kind = part.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or("unknown");
            let file = scratch.join(format!("{kind}-{}.yaml", kinds.len()));
            super::write(&file, part)?;
            process::run(Command::new(programs.join("kubernetes-validate")).arg("--strict").arg(&file))?;
            kinds.push(kind.to_owned());
        }
    }
    Ok(format!("valid: {}", kinds.join(", ")))
}

/// Checks what the files say without any other program.
pub(super) fn check_files() -> Result<(), String> {
    let read =
        |file: &str| Ok::<_, String>(repository::text(&format!("deploy/kubernetes/{file}"))?.unwrap_or_default());
    let version = super::version()?;
    let expected = [
        ("base/kustomization.yaml", format!("newTag: {version}")),
        // Longer than what the configuration beside it allows: 5 s and 30 s.
        ("base/deployment.yaml", "terminationGracePeriodSeconds: 45".to_owned()),
        ("base/fanfare.toml", r#"drain = { limit = "30s", announce = "5s" }"#.to_owned()),
        ("base/deployment.yaml", "readOnlyRootFilesystem: true".to_owned()),
        ("base/deployment.yaml", "automountServiceAccountToken: false".to_owned()),
    ];
    for (file, text) in expected {
        if !read(file)?.contains(&text) {
            return Err(format!("deploy/kubernetes/{file} does not say {text}"));
        }
    }
    for folder in FOLDERS {
        match process::succeeds("kubectl", &["version", "--client"]) {
            true => drop(together(folder)?),
            false => println!("{folder} is not read: kubectl is not installed"),
        }
    }
    Ok(())
}

fn together(folder: &str) -> Result<String, String> {
    process::output(Command::new("kubectl").arg("kustomize").arg(repository::root().join(folder)))
}
