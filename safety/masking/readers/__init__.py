"""What of a match is the secret: one reader for each shape, working on bytes.

A reader gets the text, the match and where its line ends, and returns the span of the secret, or None when it is none.
"""

from safety.masking.readers.addresses import email, ip_address, url_password
from safety.masking.readers.assigned import assigned_password, assigned_token
from safety.masking.readers.commands import argument, command_password
from safety.masking.readers.headers import header
from safety.masking.readers.numbers import aws_secret, card_number, group, mixed_group, social_security_number, whole

__all__ = [
    "argument",
    "assigned_password",
    "assigned_token",
    "aws_secret",
    "card_number",
    "command_password",
    "email",
    "group",
    "header",
    "ip_address",
    "mixed_group",
    "social_security_number",
    "url_password",
    "whole",
]
