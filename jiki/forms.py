"""The form of an exercise's page."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

from jiki import uploads

MAIN = "solution.py"


class FilesInput(forms.FileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Any number of text files, as a dict of their contents by name."""

    widget = FilesInput

    def clean(self, data: "Iterable[UploadedFile[Any]] | None", initial: Any = None) -> dict[str, str]:
        sources: dict[str, str] = {}
        for file in data or ():
            name = super().clean(file, initial).name
            if name in sources:
                raise forms.ValidationError(f"Two files are called {name}. Rename one.")
            try:
                text = file.read().decode("utf-8-sig")
            except UnicodeDecodeError:
                text = "\0"
            if "\0" in text:
                raise forms.ValidationError(f"{name} is not UTF-8 text. Save it as plain text.")
            sources[name] = "\n".join(text.split("\r\n"))
        if sources and MAIN not in sources:
            raise forms.ValidationError(f"There is no {MAIN} among the files. The checks need it.")
        return sources


class SubmissionForm(forms.Form):
    """Code typed in, or files. `cleaned_data["sources"]` has the files' contents by name."""

    code = forms.CharField(
        label="Your code",
        required=False,
        strip=False,
        max_length=uploads.MOST_BYTES,
        widget=forms.Textarea(
            attrs={"rows": 12, "spellcheck": "false", "autocapitalize": "off", "autocomplete": "off", "class": "code"}
        ),
    )
    uploads = FilesField(
        label="Or files instead",
        required=False,
        allow_empty_file=True,
        help_text=f"One of them called {MAIN}. At most {uploads.MOST_FILES}, of {uploads.MOST_BYTES // 1000} kB each.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        code = "\n".join(cleaned.get("code", "").split("\r\n"))
        cleaned["sources"] = cleaned.get("uploads") or {MAIN: code}
        if not self.errors and not any(text.strip() for text in cleaned["sources"].values()):
            self.add_error("code", "There is no code yet.")
        return cleaned
