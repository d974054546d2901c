from aqd_mmdet.program import ops as ir


def test_dtypes_are_the_smallest():
    cases = {(0, 255): 'uint8', (-127, 127): 'int8', (-1024, 1024): 'int16'}
    for (lo, hi), name in cases.items():
        assert ir.Grid(lo, hi).dtype.name == name
    assert ir.INT32.dtype.name == 'int32'


def test_sizes_are_those_of_the_tensors(compiled):
    program = compiled().folded.program
    sizes = program.sizes((37, 45))
    assert sizes['backbone.conv1'] == (19, 23)
    assert sizes['output0.0'] == (5, 6)
    assert sizes['output0.3'] == (1, 1)


def test_no_two_living_tensors_overlap_in_memory(compiled):
    program = compiled().folded.program
    image = (64, 96)
    plan = ir.plan_memory(program, image)
    sizes, last = program.sizes(image), program.last_uses()
    ends = {}
    living: list[str] = []
    for position, op in enumerate(program.ops):
        size = ir.tensor_bytes(op, sizes[op.output])
        start = plan.offsets[op.output]
        assert start % ir.ALIGNMENT == 0
        ends[op.output] = start + size
        assert start + size <= plan.peak
        for other in living:
            apart = (
                ends[other] <= start or start + size <= (plan.offsets[other])
            )
            assert apart, (op.output, other)
        living.append(op.output)
        living = [name for name in living if last.get(name, -1) > position]
    total = sum(ir.tensor_bytes(op, sizes[op.output]) for op in program.ops)
    assert plan.peak < total / 3


def test_the_listing_has_a_line_for_each_operator(compiled):
    program = compiled().folded.program
    lines = list(ir.listing(program))
    assert len(lines) == len(program.ops) + 2
    assert lines[1].startswith('backbone.conv1[8] ')
    assert '8 bits' in lines[1]
