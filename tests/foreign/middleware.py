"""What a project without autocommit does at the end of each request."""

from django.db import transaction


def commit(get_response):
    def respond(request):
        response = get_response(request)
        transaction.commit()
        return response

    return respond
