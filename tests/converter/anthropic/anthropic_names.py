"""Names of Anthropic's own package (anthropic 2.14); ``tests/clients/test_anthropic_names`` holds them against it."""

from __future__ import annotations

HEADERS = {"betas", "user_profile_id", "workspace_id"}  # arguments that become headers
FIELDS = set(
    """
    billing_policy cache_control compaction container context_management diagnostics fallback_credit_token
    fallbacks inference_geo max_tokens mcp_servers messages metadata model output_config service_tier speed
    stop_sequences stream system thinking thread tool_choice tools
    """.split()
)
BLOCKS = set(
    """
    advisor_tool_result bash_code_execution_tool_result code_execution_tool_result compaction container_upload
    document fallback image mcp_tool_listing mcp_tool_result mcp_tool_use redacted_thinking search_result
    server_tool_use text text_editor_code_execution_tool_result thinking tool_addition tool_removal
    tool_result tool_search_tool_result tool_use web_fetch_tool_result web_search_tool_result
    """.split()
)
RESULT_BLOCKS = set(
    """
    browser_state document image search_result text tool_reference
    """.split()
)
TOOLS = set(
    """
    advisor_20260301 bash_20241022 bash_20250124 browser_toolset_20260801 code_execution_20250522
    code_execution_20250825 code_execution_20260120 code_execution_20260521 computer_20241022
    computer_20250124 computer_20251124 computer_toolset_20260801 custom mcp_toolset memory_20250818
    text_editor_20241022 text_editor_20250124 text_editor_20250429 text_editor_20250728 tool_search_tool_bm25
    tool_search_tool_bm25_20251119 tool_search_tool_regex tool_search_tool_regex_20251119 web_fetch_20250910
    web_fetch_20260209 web_fetch_20260309 web_fetch_20260318 web_search_20250305 web_search_20260209
    web_search_20260318
    """.split()
)
