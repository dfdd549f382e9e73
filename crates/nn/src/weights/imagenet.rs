//! torchvision's official ImageNet weights: which file belongs to which architecture.
//!
//! Names as in torchvision 0.29.2 (`torchvision/models/*.py`). The eight hexadecimal digits in a name begin the
//! SHA-256 of the file: that is the rule of `torch.hub`.

/// A file of torchvision's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfficialFile {
    /// The file's name, as `resnet18-f37072fd.pth`.
    pub name: &'static str,
    /// The first eight hexadecimal digits of the file's SHA-256, in lower case.
    pub sha256_prefix: &'static str,
}

/// Architecture, file, SHA-256 prefix. `IMAGENET1K_V1` everywhere, which are the weights that most papers mean.
const FILES: [(&str, OfficialFile); 12] = [
    ("vgg11", file("vgg11-8a719046.pth", "8a719046")),
    ("vgg13", file("vgg13-19584684.pth", "19584684")),
    ("vgg16", file("vgg16-397923af.pth", "397923af")),
    ("vgg19", file("vgg19-dcbb9e9d.pth", "dcbb9e9d")),
    ("vgg11_bn", file("vgg11_bn-6002323d.pth", "6002323d")),
    ("vgg13_bn", file("vgg13_bn-abd245e5.pth", "abd245e5")),
    ("vgg16_bn", file("vgg16_bn-6c64b313.pth", "6c64b313")),
    ("vgg19_bn", file("vgg19_bn-c79401a0.pth", "c79401a0")),
    ("resnet18", file("resnet18-f37072fd.pth", "f37072fd")),
    ("resnet34", file("resnet34-b627a593.pth", "b627a593")),
    ("resnet50", file("resnet50-0676ba61.pth", "0676ba61")),
    ("densenet121", file("densenet121-a639ec97.pth", "a639ec97")),
];

const fn file(name: &'static str, sha256_prefix: &'static str) -> OfficialFile {
    OfficialFile { name, sha256_prefix }
}

/// The ImageNet weights of an architecture by torchvision's name; `None` where torchvision has none or the
/// architecture is not known.
pub fn official_file(architecture: &str) -> Option<OfficialFile> {
    FILES.iter().find(|(name, _)| *name == architecture).map(|(_, file)| *file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_made_of_architecture_and_checksum() {
        for (architecture, file) in FILES {
            assert_eq!(file.name, format!("{architecture}-{}.pth", file.sha256_prefix));
            assert!(file.sha256_prefix.len() == 8 && file.sha256_prefix.bytes().all(|b| b.is_ascii_hexdigit()));
            assert_eq!(official_file(architecture), Some(file));
        }
        assert_eq!(official_file("vgg17"), None);
    }
}
