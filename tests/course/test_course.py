"""The course: wrong answers are caught with the right words, solutions are right, an exercise that
nobody has answered says so, and the material that is made from the lessons is complete.
"""

import re

import nbformat
import pytest
from conftest import ROOT

import hiermovie.course
from hiermovie.course import (
    NOT_ANSWERED,
    Exercises,
    Number,
    for_nbgrader,
    for_students,
    handout_page,
    lesson_files,
    read_lesson,
    read_questions,
    slides_page,
    tagged,
    write_course,
)

LESSONS = lesson_files(ROOT / "nbs/lessons")
CHECKS = [getattr(hiermovie.course, f"LESSON_{n}") for n in range(10)]
by_name = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def exercises_of(lesson) -> list:
    return [cell for cell in lesson.cells if tagged(cell, "exercise")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.lesson)
def test_wrong_answers_are_caught(check):
    assert check.mistaken() == []
    assert sum(len(exercise.traps) for exercise in check.known.values()) >= len(check.known)
    for number in check.known:
        assert check(number, ...) == NOT_ANSWERED
        assert not check(number, object()), "anything is taken for right"


def test_a_trap_that_is_taken_for_right_is_seen():
    careless = Exercises("careless", {1: Number(1.0, "one", ((1.001, "nearly"),))})
    assert len(careless.mistaken()) == 1


def test_there_are_ten_lessons_with_five_exercises_or_more_and_ten_questions():
    assert [path.stem[0] for path in LESSONS] == [str(n) for n in range(10)]
    for number, path in enumerate(LESSONS):
        lesson = read_lesson(path)
        text = "\n".join(c.source for c in lesson.cells if c.cell_type == "markdown")
        assert len(exercises_of(lesson)) == len(CHECKS[number].known) >= 5, path.stem
        assert text.count("<details><summary>Hint</summary>\n\n") == len(CHECKS[number].known)
        assert {"(do)", "(change)", "(invent)"} <= {w for w in text.split() if w[0] == "("}
        assert len(read_questions(number, ROOT / "nbs/lessons/questions.yaml")) == 10
        assert "**Time**" in lesson.cells[0].source and "**Afterwards" in lesson.cells[0].source


@by_name
def test_a_class_gets_no_solutions(path):
    lesson = read_lesson(path)
    folded = dict(source_hidden=True, outputs_hidden=True)
    answers = [c for c in lesson.cells if tagged(c, "solution")]
    assert all(c.metadata["jupyter"] == folded and tagged(c, "hide-cell") for c in answers)
    assert all(c.source.startswith("# a solution: open it") for c in answers)
    solutions = [c.source for c in answers]
    students = for_students(lesson)
    nbformat.validate(students)
    left = "\n".join(cell.source for cell in students.cells)
    assert solutions and not [s for s in solutions if s in left]
    assert not any(cell.get("outputs") for cell in students.cells)


@by_name
def test_an_assignment_has_a_locked_test_for_every_exercise(path):
    lesson = read_lesson(path)
    graded = for_nbgrader(lesson)
    nbformat.validate(graded)
    about = [c.metadata.nbgrader for c in graded.cells if "nbgrader" in c.metadata]
    names = [a.grade_id for a in about]
    assert len(set(names)) == len(names) == 2 * len(exercises_of(lesson))
    assert all(a.solution != (a.grade and a.locked) for a in about)
    asked = [c.source for c in graded.cells if "### BEGIN SOLUTION" in c.source]
    assert len(asked) == len(exercises_of(lesson))
    assert not any("check(" in source.splitlines()[-2] for source in asked)
    above = [source.split("### BEGIN SOLUTION")[0] for source in asked]
    assert all("..." in lines for lines in above), "an earlier answer would count for this one"


@by_name
def test_slides_and_handouts_leave_the_solutions_out(path):
    lesson = read_lesson(path)
    solutions = [c for c in lesson.cells if tagged(c, "solution")]
    slides, handout = slides_page(lesson), handout_page(lesson, path.stem)
    assert slides.count("<section") >= len(exercises_of(lesson))
    assert handout.count('class="room"></div>') == len(solutions)
    for page in (slides, handout):
        fetched = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(http[^"]*)"', page)
        assert not fetched, "a lecture room may have no network"
    for page in (slides, handout):
        assert "$" not in page or r"\frac" not in page, "a formula was not set"


def _addresses(css) -> str:  # of all that a style sheet fetches
    return " ".join(re.findall(r"(?:@import|url\()[^;)]*", css.read_text()))


def test_all_material_by_one_call(tmp_path):
    files = write_course(tmp_path, LESSONS[:2])
    assert len(files) == 8 and all(file.stat().st_size > 3000 for file in files)
    for slides in (tmp_path / "slides").glob("*.html"):
        beside = re.findall(r'(?:src|href)="(reveal.js/[^"]*)"', slides.read_text())
        assert len(beside) == 4 and all((slides.parent / file).is_file() for file in beside)
        styles = [file for file in beside if file.endswith(".css")]
        assert not [css for css in styles if "//" in _addresses(slides.parent / css)]


@pytest.mark.slow
@by_name
def test_a_lesson_runs_and_its_checks_say_what_they_should(path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests run beside it
    lesson = read_lesson(path)
    place = dict(metadata=dict(path=str(path.parent)))
    NotebookClient(lesson, timeout=900, kernel_name="python3", resources=place).execute()
    for tag, words in (("exercise", "not yet: write your answer"), ("solution", "right:")):
        cells = [cell for cell in lesson.cells if tagged(cell, tag)]
        said = [cell.outputs[-1]["data"]["text/plain"] for cell in cells]
        assert [s for s in said if not s.startswith(words)] == []
