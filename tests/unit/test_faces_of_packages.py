"""What each package exports: the names that its users may import from the package itself."""

from __future__ import annotations

from importlib import import_module

import pytest

FACES = {
    "testbed": """
        Lab TestbedError Topology eventually expect ladder_from_files load loads plan read_trace
    """,
    "testbed.conformance": """
        Answer Check Circumstances Finding MODERN PROFILES Profile RFC2525 all_checks check
        check_trace
        find
    """,
    "testbed.lab": "Capture Completed Lab LabLink LabNode",
    "testbed.report": """
        Arrow ArrowKind Drawing Episode Hop Ladder Mark MarkKind Silence Story TraceTable beside
        build_ladder connection_story dot_plot draw draw_connection draw_svg ladder_from_files
        ladder_from_traces plan_tables terminal_plots trace_table
    """,
    "testbed.scenarios": """
        Cell Count Experiment Judgement Measurements NAT_LABELS Nat Outcome Positive Presentation
        Result RunRecord Scenario conclude find median_of medians_of path_ladder run scenario
        scenarios
        with_kernel_nat
    """,
    "testbed.topology": """
        CapturePoint
        Chance Codel Corrupt DropRule Endpoint FourState FunctionSpec GilbertElliott Impairments
        Interface Jitter KernelAqm KernelFunctions Link Node NodeKind Plan PlannedInterface
        PlannedLink PlannedNode PlannedRoute Queue QueueLimit RateTrace Red Reorder Route
        RouteMetrics Ruleset ScheduledChange Topology check json_schema node_kind plan
        with_function with_function_if with_link with_node
    """,
    "testbed.trace": """
        ConnectionComparison FirstData Passed Rewritten compare
        Analysis Legs Needless Repeat RepeatReason SegmentClass SegmentMark VantagePoint analyse
        CaptureFile CaptureInterface CaptureSource Clock Connection ConnectionPair Crossing
        Direction End Endpoint Fate Flow Followed Handshake HandshakeRtt Journey
        OptionBit Options Passage Segment SegmentTable Stop Trace TraceSummary Vantage
        compare_clocks difference follow is_capture
        match_connections match_segments read_fates read_trace
    """,
    "testbed.traffic": """
        AfterSilence Exchange Responder Sample Service Stream SynFlood Transfer exchange
        exchange_after_silence fast_open_exchange http_after_silence http_request receive_exactly
        stream transfer
    """,
}


@pytest.mark.parametrize("package", FACES)
def test_a_package_exports_these_names_and_has_them(package):
    module = import_module(package)
    assert sorted(module.__all__) == sorted(FACES[package].split())
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize("package", ["testbed", "testbed.report", "testbed.topology"])
def test_an_unknown_name_of_a_lazy_face_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Labb'"):
        _ = import_module(package).Labb
