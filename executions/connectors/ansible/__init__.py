"""Playbooks on machines, by ansible-runner. See docs/decisions/0021-ansible.md."""
