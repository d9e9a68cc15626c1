"""Label Studio's list of regions, at the right of the editor."""

from __future__ import annotations

from playwright.sync_api import Page

_ROW = ".lsf-tree__node"


class RegionList:
    """The list on a page with an open task."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def order_by_score(self) -> None:
        """Choose "Order by Score"; once more turns the order round."""
        button = self.page.locator(".lsf-view-controls__sort button")
        menu = self.page.locator(".lsf-dropdown.lsf-visible")
        button.click()
        self.page.locator(".lsf-menu__item", has_text="Order by Score").click()
        # The list is drawn anew a moment later. The menu closes by itself now and then.
        self.page.wait_for_timeout(500)
        if menu.count():
            button.click()
            menu.wait_for(state="hidden")

    def rows(self) -> list[str]:
        """The rows in view: number, label, and score where there is one."""
        self.page.locator(_ROW).first.wait_for()
        return [" ".join(row.split()) for row in self.page.locator(_ROW).all_inner_texts()]

    def choose(self, position: int) -> None:
        """Click a row in view; Label Studio shows the frame of its region."""
        self.page.locator(_ROW).nth(position).click()
        self.page.wait_for_function(
            """() => {
                const annotation = window.Htx.annotationStore.selected;
                const image = annotation.objects.find(o => o.type === 'image');
                const chosen = annotation.highlightedNode;
                return chosen && image.currentImage === chosen.item_index && image.currentImageEntity.imageLoaded;
            }""",
            timeout=60_000,
        )
