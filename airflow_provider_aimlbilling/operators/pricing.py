"""The operator that estimates what a job will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_aimlbilling.compat import BaseOperator
from airflow_provider_aimlbilling.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_aimlbilling.links.billing import BillingPageLink

if TYPE_CHECKING:
    from airflow_provider_aimlbilling.compat import Context
    from airflow_provider_aimlbilling.money.amount import Amount
    from airflow_provider_aimlbilling.money.pricing import Estimate, Pricing

# What only a running task needs is imported where it is used: Airflow parses DAG files again and again.


class EstimateCostOperator(BaseOperator):
    """
    Price a job by the live catalogue, so that a gate can require exactly that amount.

    Returns the amount as text that every ``threshold`` accepts, such as ``"617500 credits"``. Pushes the XCom
    ``estimate`` (:meth:`Estimate.to_dict`): the amount in credits and USD, the rates that were used, and when they were
    read. Only the entry of this one model is requested.

    Describe the job in one of two ways. For tokens, by ``requests``, ``input_tokens`` and ``max_output_tokens``::

        EstimateCostOperator(task_id="price", model="…", requests=1200, input_tokens=900, max_output_tokens=400)

    For everything else, by ``work``.

    :param model: id of the model in the vendor's catalogue, or an alias; templated.
    :param requests: how many requests the job makes; templated.
    :param input_tokens: input tokens of one request; templated.
    :param max_output_tokens: most output tokens of one request, as the job allows them; templated. A fee per request is
        added if the model has one. Nothing else of the model counts as used, and no input token as cached.
    :param work: how much of each unit the whole job uses: ``{"input token": 2_000_000, "output token": 500_000}``,
        ``{"second": 8}``. Every rate of the model must be named, with 0 for what the job does not use. Templated.
    :param others_unused: the job uses nothing of the rates that ``work`` does not name.
    :param parts: into how many equal parts the job is split, such as mapped tasks. The XCom ``part`` is then the price
        of one of them, as text for a ``threshold``, rounded up to the next credit (with ``requests``, to the next whole
        request); templated.
    :param variant: the parameters that the rate depends on, such as ``{"resolution": "1080p"}``; templated.
    :param margin: a safety margin to add, such as ``"20%"``; templated.
    :param model_type: the endpoint type, such as ``openai/chat-completions``, if the model has several; templated.
    :param aimlbilling_conn_id: id of an Airflow connection of type ``aimlbilling``; templated.
    :raises AimlBillingPricingError: the job has no exact price: the model's price is variable, or the model, a unit or
        the variant is not in the catalogue. For a known model the message lists what is known.
    :raises AimlBillingError: or another subclass, as in :meth:`AimlBillingHook.get_pricing`.
    """

    template_fields: Sequence[str] = (
        *("model", "work", "requests", "input_tokens", "max_output_tokens", "parts"),
        *("variant", "margin", "model_type", "aimlbilling_conn_id"),
    )
    template_fields_renderers = {"work": "json", "variant": "json"}  # noqa: RUF012 - as in Airflow's operators
    ui_color = "#d8f3dc"
    operator_extra_links = (BillingPageLink(),)

    def __init__(
        self,
        *,
        model: str,
        work: Mapping[str, object] | None = None,
        requests: object = None,
        input_tokens: object = None,
        max_output_tokens: object = None,
        others_unused: bool = False,
        parts: object = None,
        variant: Mapping[str, object] | None = None,
        margin: str = "0%",
        model_type: str | None = None,
        aimlbilling_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.work = work
        self.requests = requests
        self.input_tokens = input_tokens
        self.max_output_tokens = max_output_tokens
        self.others_unused = others_unused
        self.parts = parts
        self.variant = variant
        self.margin = margin
        self.model_type = model_type
        self.aimlbilling_conn_id = aimlbilling_conn_id

    def execute(self, context: Context) -> str:
        """Read the model's rates and price the job."""
        from airflow_provider_aimlbilling.exceptions import AimlBillingPricingError
        from airflow_provider_aimlbilling.money.quantity import whole_number

        tokens = {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "max_output_tokens": self.max_output_tokens,
        }
        by_tokens = any(value is not None for value in tokens.values())
        if by_tokens == (self.work is not None):
            raise AimlBillingPricingError(
                "Describe the job either by work, or by requests, input_tokens and max_output_tokens."
            )
        parts = None if self.parts is None else whole_number("parts", self.parts, least=1)
        from airflow_provider_aimlbilling.hooks.aimlbilling import AimlBillingHook

        pricing = AimlBillingHook(self.aimlbilling_conn_id).get_pricing(self.model, model_type=self.model_type)
        if by_tokens:
            requests, received, answered = (whole_number(name, value) for name, value in tokens.items())
            estimate = self._estimate(pricing, pricing.token_work(requests, received, answered))
        else:
            estimate = self._estimate(pricing, self.work or {})
        part: Amount | None = None
        if parts is not None:
            part = estimate.part(parts)
            if by_tokens:  # some parts have a request more than others
                most = pricing.token_work(-(-requests // parts), received, answered)
                part = self._estimate(pricing, most).amount.rounded_up()
        each = f", {part.usd_text} for each of {parts} parts" if part else ""
        self.log.info("The job will cost %s at the rates of %s%s.", estimate.amount, estimate.model, each)
        if self.do_xcom_push:
            context["ti"].xcom_push(key="estimate", value=estimate.to_dict())
            if part is not None:
                context["ti"].xcom_push(key="part", value=part.text)
        return estimate.threshold

    def _estimate(self, pricing: Pricing, work: Mapping[str, object]) -> Estimate:
        others_unused = self.others_unused or self.work is None
        return pricing.estimate(work, self.variant, self.margin, others_unused=others_unused)
