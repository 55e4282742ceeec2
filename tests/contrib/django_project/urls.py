"""The site's pages."""

import uuid

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.cache import cache_page


def login(request: HttpRequest, name: str) -> HttpResponse:
    request.session["name"] = name
    return HttpResponse("welcome")


def logout(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    return HttpResponse("bye")


def who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.session.get("name", "nobody"))


def visit(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


def plain(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


@cache_page(60)  # type: ignore[untyped-decorator] # Django has no types
def slow(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"made once: {uuid.uuid4()}")


urlpatterns = [
    path("login/<name>", login),
    path("logout", logout),
    path("who", who),
    path("visit", visit),
    path("plain", plain),
    path("slow", slow),
]
