"""/files"""

from __future__ import annotations

import logging
from datetime import timedelta

from assistant_manager import services
from assistant_manager.models import File
from assistant_manager.models.files import AZURE_ID_PREFIX
from assistant_manager.openai_api.base import ID_PREFIXES, CompatibleView, accepts
from assistant_manager.openai_api.errors import Wire, WireError, no_such_file
from assistant_manager.openai_api.flavours import is_azure
from assistant_manager.openai_api.pagination import paged
from assistant_manager.openai_api.responses import ContentResponse, WireResponse
from assistant_manager.openai_api.schemas import ListFiles
from assistant_manager.openai_api.serializers import deleted, file_wire
from assistant_manager.openai_api.uploads import Upload, read_upload

logger = logging.getLogger(__name__)


class FileView(CompatibleView):
    def file(self, id: str) -> File:
        """Raises the vendor's 404, for an expired file too."""
        found = File.objects.of(self.project).live().filter(public_id=id).first()
        if found is None:
            raise no_such_file(id)
        return found


class Files(FileView):
    @accepts(query=ListFiles)
    def get(self, query: ListFiles) -> Wire:
        rows = File.objects.of(self.project).live()
        if query.purpose is not None:
            rows = rows.filter(purpose=query.purpose)
        return paged(rows, query, noun="file", prefix=ID_PREFIXES["file_id"], wire=file_wire)

    @accepts()
    def post(self) -> WireResponse:
        upload = read_upload(self.request._request)
        stored: list[File] = []
        try:
            return self.once(lambda: self._keep(upload, stored), content=upload.digest())
        except BaseException:
            # The row was rolled back; the bytes would have nobody to delete them.
            for file in stored:
                file.content.storage.delete(str(file.content.name))
            raise

    def _keep(self, upload: Upload, stored: list[File]) -> Wire:
        purpose, expiry = upload.fields.purpose, upload.fields.expires_after
        azure = is_azure(self.request.path_info) and purpose == "assistants"
        file = services.keep_file(
            project=self.project,
            upload=upload.file,
            filename=str(upload.file.name),
            purpose=purpose,
            id_prefix=AZURE_ID_PREFIX if azure else "file-",
            expires_after=timedelta(seconds=expiry.seconds) if expiry else None,
        )
        stored.append(file)
        return file_wire(file)


class OneFile(FileView):
    @accepts()
    def get(self, file_id: str) -> Wire:
        return file_wire(self.file(file_id))

    @accepts()
    def delete(self, file_id: str) -> Wire:
        self.file(file_id).delete()
        return deleted(file_id, "file")


class FileContent(FileView):
    """Whatever its purpose: OpenAI kept back what was uploaded for assistants, so as not to be a
    file host; here the files are the project's own."""

    @accepts()
    def get(self, file_id: str) -> ContentResponse:
        file = self.file(file_id)
        try:
            content = file.content.open("rb")
        except FileNotFoundError as error:
            logger.error("The bytes of %s are missing from storage", file_id)
            raise WireError(
                f"The content of {file_id} is missing from the server's storage. Tell whoever "
                "runs this server.",
                status=500,
                type="server_error",
                headers={"x-should-retry": "false"},
            ) from error
        return ContentResponse(content, file.filename)
