-- build_aggregated_sql of litellm/repositories/daily_activity_sql.py, LiteLLM 1.106.2 (MIT)
(SELECT
            date,
            NULL::text AS api_key,
            model,
            COALESCE(NULLIF(model_group, ''), model) AS model_group,
            custom_llm_provider,
            mcp_namespaced_tool_name,
            endpoint,
            (GROUPING(date) << 6) | 32
                | GROUPING(model, COALESCE(NULLIF(model_group, ''), model),
                           custom_llm_provider, mcp_namespaced_tool_name,
                           endpoint) AS group_level,
            NULL::bigint AS distinct_api_keys,
            SUM(spend)::float AS spend,
            0::float AS ptu_flat_cost,
            SUM(prompt_tokens)::bigint AS prompt_tokens,
            SUM(completion_tokens)::bigint AS completion_tokens,
            SUM(cache_read_input_tokens)::bigint AS cache_read_input_tokens,
            SUM(cache_creation_input_tokens)::bigint AS cache_creation_input_tokens,
            SUM(compression_saved_tokens)::bigint AS compression_saved_tokens,
            SUM(compression_savings_spend)::float AS compression_savings_spend,
            SUM(prompt_caching_savings_spend)::float AS prompt_caching_savings_spend,
            SUM(gateway_injected_caching_savings_spend)::float AS gateway_injected_caching_savings_spend,
            SUM(autorouter_savings_spend)::float AS autorouter_savings_spend,
            SUM(api_requests)::bigint AS api_requests,
            SUM(successful_requests)::bigint AS successful_requests,
            SUM(failed_requests)::bigint AS failed_requests,
            SUM(total_response_time_ms)::bigint AS total_response_time_ms,
            SUM(timed_requests)::bigint AS timed_requests
        FROM "LiteLLM_DailyUserSpend"
        WHERE date >= $1 AND date <= $2
        GROUP BY GROUPING SETS (
            (date),
            (date, model),
            (date, COALESCE(NULLIF(model_group, ''), model)),
            (date, custom_llm_provider),
            (date, mcp_namespaced_tool_name),
            (date, endpoint),
            ()
        ))
        UNION ALL
        (WITH top_api_keys AS (

            SELECT api_key, COUNT(*) OVER () AS distinct_api_keys
            FROM "LiteLLM_DailyUserSpend"
            WHERE date >= $1 AND date <= $2 AND api_key <> $3
            GROUP BY api_key
            ORDER BY SUM(spend::numeric) DESC, api_key
            LIMIT $4

        )
        SELECT
            date,
            api_key,
            model,
            COALESCE(NULLIF(model_group, ''), model) AS model_group,
            custom_llm_provider,
            mcp_namespaced_tool_name,
            endpoint,
            GROUPING(date, api_key, model, COALESCE(NULLIF(model_group, ''), model),
                     custom_llm_provider, mcp_namespaced_tool_name,
                     endpoint) AS group_level,
            MAX(top_api_keys.distinct_api_keys) AS distinct_api_keys,
            SUM(spend)::float AS spend,
            0::float AS ptu_flat_cost,
            SUM(prompt_tokens)::bigint AS prompt_tokens,
            SUM(completion_tokens)::bigint AS completion_tokens,
            SUM(cache_read_input_tokens)::bigint AS cache_read_input_tokens,
            SUM(cache_creation_input_tokens)::bigint AS cache_creation_input_tokens,
            SUM(compression_saved_tokens)::bigint AS compression_saved_tokens,
            SUM(compression_savings_spend)::float AS compression_savings_spend,
            SUM(prompt_caching_savings_spend)::float AS prompt_caching_savings_spend,
            SUM(gateway_injected_caching_savings_spend)::float AS gateway_injected_caching_savings_spend,
            SUM(autorouter_savings_spend)::float AS autorouter_savings_spend,
            SUM(api_requests)::bigint AS api_requests,
            SUM(successful_requests)::bigint AS successful_requests,
            SUM(failed_requests)::bigint AS failed_requests,
            SUM(total_response_time_ms)::bigint AS total_response_time_ms,
            SUM(timed_requests)::bigint AS timed_requests
        FROM "LiteLLM_DailyUserSpend" JOIN top_api_keys USING (api_key)
        WHERE date >= $1 AND date <= $2
        GROUP BY GROUPING SETS (
            (date, api_key),
            (date, model, api_key),
            (date, COALESCE(NULLIF(model_group, ''), model), api_key),
            (date, custom_llm_provider, api_key),
            (date, mcp_namespaced_tool_name, api_key),
            (date, endpoint, api_key)
        ))
